"""`python -m holdfast`."""

import sys

from holdfast.interpreter import main

sys.exit(main())
