"""The same as the program `emd`: `python -m emd.cli`."""

import sys

from emd.cli import main

sys.exit(main())
