"""An agent whose first four runs crash at once, as if something that it needs were not there yet.

provost tells every run its number; from the fifth one on, all is well.
"""

import os
import sys
import time

run = int(os.environ.get("PROVOST_GENERATION", "1"))
if run < 5:
    sys.exit(f"run {run}: the database is not there")
print(f"run {run}: the database is there again")
while True:
    time.sleep(1)
