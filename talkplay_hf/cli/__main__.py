"""`python -m talkplay_hf.cli`."""

import sys

from talkplay_hf.cli import main

sys.exit(main())
