"""Who may edit an item: attempts are claimed with their money, taken over from the dead, and given back."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from wanbatch.errors import BudgetReached, ClaimLost
from wanbatch.journal import schema
from wanbatch.journal.reading import COLUMNS, Reading, attempt_of
from wanbatch.journal.records import Attempt, Cap, State, spec_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wanbatch.models import Item

_OPEN = tuple(state for state in State if state is not State.SETTLED)


class Claims(Reading):
    """Claims on items."""

    def take_over(self, run_id: str, service: str) -> list[Attempt]:
        """Claim every open attempt at a service that nobody holds any more, the oldest first.

        A `sent` attempt of a run that died got no answer: it is in doubt from now on. One that was only intended
        is forgotten: the manifest brings it up again, with its signatures, and under this run's budget.
        """
        with self._write() as db:
            now = self._now(db)
            free = sa.or_(
                schema.attempts.c.run_id.in_(self._dead(db, now)),
                schema.attempts.c.run_id.in_(
                    sa.select(schema.runs.c.run_id).where(schema.runs.c.ended_at.is_not(None))
                ),
                schema.attempts.c.run_id == run_id,
            )
            ours = sa.and_(
                schema.attempts.c.state != State.SETTLED, schema.attempts.c.service == service, free
            )
            db.execute(schema.attempts.delete().where(ours, schema.attempts.c.state == State.INTENDED))
            db.execute(schema.attempts.update().where(ours).values(run_id=run_id))
            lost = schema.attempts.update().where(ours, schema.attempts.c.state == State.SENT)
            db.execute(lost.values(state=State.IN_DOUBT, doubted_at=now))
            mine = sa.select(*COLUMNS).where(
                schema.attempts.c.run_id == run_id, schema.attempts.c.state != State.SETTLED
            )
            return [attempt_of(row) for row in db.execute(mine.order_by(schema.attempts.c.intended_at))]

    def claim(
        self,
        run_id: str,
        item: Item,
        *,
        service: str,
        manifest: str,
        number: int,
        reserve: Decimal | None = None,
        currency: str | None = None,
        input_s: Decimal | None = None,
        caps: Sequence[Cap] = (),
    ) -> Attempt:
        """Intend attempt `number` at an item and reserve its worst cost, or neither.

        Raises `ClaimLost` when another run was faster, `BudgetReached` when it does not fit under a cap.
        """
        with self._write() as db:
            if caps and db.dialect.name == "postgresql":
                db.execute(
                    sa.select(schema.meta.c.value).where(schema.meta.c.name == "schema").with_for_update()
                )
            for cap in caps:
                self._fit(db, cap, run_id, reserve)
            try:
                db.execute(
                    schema.attempts.insert().values(
                        key=item.key,
                        number=number,
                        run_id=run_id,
                        state=State.INTENDED,
                        service=service,
                        manifest=manifest,
                        row=item.row,
                        spec=spec_of(item),
                        currency=currency,
                        reserved=reserve,
                        input_s=input_s,
                        intended_at=self._now(db),
                        adopted=False,
                    )
                )
            except IntegrityError:
                raise ClaimLost(f"{item.name}: another run has it") from None
            return self._get(db, item.key, number)

    def _fit(self, db: sa.Connection, cap: Cap, run_id: str, reserve: Decimal | None) -> None:
        committed = self._committed(db, cap, run_id)
        if reserve is None or committed + reserve > cap.amount:
            raise BudgetReached(
                f"the budget of {cap.amount} {cap.currency} is reached: {committed} are spent or reserved, "
                f"and the next edit could cost {reserve if reserve is not None else 'an unknown amount'}"
            )

    def _committed(self, db: sa.Connection, cap: Cap, run_id: str) -> Decimal:
        """Add up what is spent and what is reserved under a cap."""
        settled = sa.and_(
            schema.attempts.c.state == State.SETTLED, schema.attempts.c.currency == cap.currency
        )
        going = sa.and_(schema.attempts.c.state.in_(_OPEN), schema.attempts.c.currency == cap.currency)
        if cap.since is None:
            settled, going = (
                sa.and_(settled, schema.attempts.c.run_id == run_id),
                sa.and_(going, schema.attempts.c.run_id == run_id),
            )
        else:
            settled = sa.and_(settled, schema.attempts.c.settled_at >= cap.since)
        # A settled attempt of unknown cost counts with what was reserved for it.
        spent = db.scalar(
            sa.select(
                sa.func.sum(sa.func.coalesce(schema.attempts.c.cost, schema.attempts.c.reserved, 0))
            ).where(settled)
        )
        reserved = db.scalar(sa.select(sa.func.sum(schema.attempts.c.reserved)).where(going))
        return (spent or Decimal(0)) + (reserved or Decimal(0))

    def committed(self, cap: Cap, run_id: str) -> Decimal:
        """Add up what is spent and what is reserved under a cap."""
        with self._read() as db:
            return self._committed(db, cap, run_id)

    def withdrawn(self, attempt: Attempt) -> None:
        """Forget an attempt that was never sent, and free its money."""
        with self._write() as db:
            db.execute(
                schema.attempts.delete().where(
                    schema.attempts.c.key == attempt.key,
                    schema.attempts.c.number == attempt.number,
                    schema.attempts.c.run_id == attempt.run_id,
                    schema.attempts.c.state == State.INTENDED,
                )
            )
