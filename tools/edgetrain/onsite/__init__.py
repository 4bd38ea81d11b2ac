"""Programs that run where the data is: standard library only, Python 3.9 or later, copied there as they are.

They import nothing of edgetrain but each other, relatively; each speaks JSON on its streams.
"""

from pathlib import Path

ONSITE = Path(__file__).resolve().parent
