"use strict";
// Everything shown comes from the data as text: textContent and attributes of our own, never markup.
(() => {
  const PER_PAGE = 60;
  const TAGS_OFFERED = 300;
  const items = JSON.parse(document.getElementById("data").textContent).items;
  const by = (id) => document.getElementById(id);
  const form = by("filters");
  let found = items;
  let page = 0;

  const make = (name, className, text) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // Amounts have six places at most; whole millionths add up exactly.
  const millionths = (text) => {
    const [whole, places = ""] = text.split(".");
    return BigInt(whole + places.padEnd(6, "0"));
  };
  const amount = (sum) => {
    const text = sum.toString().padStart(7, "0");
    const places = text.slice(-6).replace(/0{1,4}$/, "");
    return `${Number(text.slice(0, -6)).toLocaleString("en")}.${places}`;
  };
  const money = (item) => (item.cost === null ? "cost unknown" : `${amount(millionths(item.cost))} ${item.currency}`);
  const tagsOf = (item) => Object.entries(item.tags).map(([name, value]) => `${name}: ${value}`);

  for (const item of items) {
    const words = [item.id, item.prompt, item.code, item.message, item.task, item.video, item.output, item.run];
    item.words = words.concat(tagsOf(item)).join("\n").toLowerCase();
  }

  const offer = (id, values) => {
    const count = new Map();
    for (const value of values) count.set(value, (count.get(value) || 0) + 1);
    const some = [...count].sort((a, b) => b[1] - a[1]).slice(0, TAGS_OFFERED);
    const all = make("option", "", "all");
    all.value = "";
    by(id).append(all);
    for (const [value, number] of some) {
      const option = make("option", "", `${value} (${number})`);
      option.value = value;
      by(id).append(option);
    }
  };

  const ORDERS = {
    settled: null,
    oldest: (a, b) => (a.settled < b.settled ? -1 : a.settled > b.settled ? 1 : 0),
    cost: (a, b) => Number(b.cost || 0) - Number(a.cost || 0),
    took: (a, b) => (b.took || 0) - (a.took || 0),
  };

  const still = (source, caption, otherwise) => {
    const figure = make("figure");
    if (source) {
      const image = make("img");
      image.alt = caption;
      image.loading = "lazy";
      image.src = source;
      figure.append(image);
    } else {
      figure.append(make("div", "none", otherwise));
    }
    figure.append(make("figcaption", "", caption));
    return figure;
  };

  const card = (item) => {
    const node = make("li", "item");
    if (item.after) {
      const pair = make("div", "stills");
      pair.append(still(item.before, "before", "no local file"), still(item.after, "after"));
      node.append(pair);
    }
    const top = make("div", "top");
    top.append(make("h3", "", item.id), make("span", `badge ${item.status}`, item.status));
    node.append(top, make("p", "prompt", item.prompt || "(no prompt)"));
    if (item.status !== "succeeded") {
      node.append(make("p", "why", [item.code, item.message].filter(Boolean).join(": ") || "no reason given"));
    }
    const facts = make("p", "facts");
    facts.append(make("b", "", money(item)));
    const told = [item.resolution];
    if (item.billed !== null) told.push(`${item.billed} s billed`);
    if (item.took !== null) told.push(`ran ${Math.round(item.took)} s`);
    if (item.attempt > 1) told.push(`attempt ${item.attempt}`);
    facts.append(` · ${told.join(" · ")}`);
    node.append(facts);
    const tags = tagsOf(item);
    if (tags.length) node.append(make("p", "tags", tags.join(" · ")));
    const more = make("details");
    more.append(make("summary", "", "More"));
    const rest = { input: item.video, output: item.output, service: item.service, settled: `${item.settled} UTC`,
      task: item.task, run: item.run };
    for (const [name, value] of Object.entries(rest)) if (value) more.append(make("p", "", `${name}: ${value}`));
    node.append(more);
    return node;
  };

  const show = () => {
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    page = Math.min(page, pages - 1);
    by("items").replaceChildren(...found.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(card));
    const sums = new Map();
    let unknown = 0;
    for (const item of found) {
      if (item.cost === null) unknown += 1;
      else if (item.currency) sums.set(item.currency, (sums.get(item.currency) || 0n) + millionths(item.cost));
    }
    const parts = [`${found.length.toLocaleString("en")} of ${items.length.toLocaleString("en")} attempts`];
    for (const [currency, sum] of [...sums].sort()) parts.push(`${amount(sum)} ${currency}`);
    if (unknown) parts.push(`${unknown.toLocaleString("en")} of unknown cost`);
    by("found").textContent = parts.join(" · ");
    by("pages").hidden = pages === 1;
    by("where").textContent = `Page ${page + 1} of ${pages}`;
    by("back").disabled = page === 0;
    by("on").disabled = page === pages - 1;
  };

  const filter = () => {
    const words = by("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const status = by("status").value;
    const tag = by("tag").value;
    const resolution = by("resolution").value;
    found = items.filter((item) => (!status || item.status === status)
      && (!resolution || item.resolution === resolution)
      && (!tag || tagsOf(item).includes(tag))
      && words.every((word) => item.words.includes(word)));
    const order = ORDERS[by("order").value];
    if (order) found.sort(order);
    page = 0;
    show();
  };

  const turn = (by_) => {
    page += by_;
    show();
    by("attempts").scrollIntoView();
  };

  offer("status", items.map((item) => item.status));
  offer("resolution", items.map((item) => item.resolution));
  offer("tag", items.flatMap(tagsOf));
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  by("back").addEventListener("click", () => turn(-1));
  by("on").addEventListener("click", () => turn(1));
  show();
})();
