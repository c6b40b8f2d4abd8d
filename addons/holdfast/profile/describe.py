"""What a profile may say, and what one does say: JSON Schema, reference page, a loaded profile without its secrets.

`python -m holdfast.profile.describe > profiles/README.md` writes the reference page.
"""

from __future__ import annotations

import sys

from holdfast.profile.mask import masked
from holdfast.profile.reference import reference_markdown
from holdfast.profile.schema import profile_schema

__all__ = ["masked", "profile_schema", "reference_markdown"]

if __name__ == "__main__":
    sys.stdout.write(reference_markdown())
