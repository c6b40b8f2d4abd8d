"""How fast it is: `scripts/bench`, and the guard that keeps it so.

cases/       what is measured, against what, and what it should come to: one declaration each
counts.py    Python calls per request, which do not depend on the machine; `tests/e2e/test_calls_per_request.py`
"""
