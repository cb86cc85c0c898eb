"""`make bench`: wanbatch and its peers, measured side by side on the same emulator."""
