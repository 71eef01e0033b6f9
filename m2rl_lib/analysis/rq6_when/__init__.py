"""RQ6: when to mix and when to merge: the map's `points`, what predicts them (`prediction`), and the `decisions` that follow."""
