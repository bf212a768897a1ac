"""doit's side: commands, tasks, reporter, database. The first of ours that doit loads."""

import gc

# Nearly all that starts up stays: looking through it for garbage again and again is a tenth of a run without work.
gc.freeze()
gc.set_threshold(20_000)
