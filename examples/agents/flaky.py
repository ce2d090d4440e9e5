"""An agent with a bug: works for some seconds, then crashes."""

import random
import time

print("started")
time.sleep(random.uniform(3, 5))
raise RuntimeError("a bug that shows up now and then")
