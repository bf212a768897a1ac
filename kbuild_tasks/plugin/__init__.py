"""doit's side: commands, tasks, reporter, database. The first of ours that doit loads."""

import gc

# Nearly all that starts up stays: looking through it again and again for garbage is a tenth of a run with nothing to do.
gc.freeze()
gc.set_threshold(20_000)
