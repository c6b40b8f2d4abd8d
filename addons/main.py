"""For `mitmdump -s addons/main.py --set holdfast=PROFILE` (and mitmweb): puts the profile's chain onto mitmproxy."""

from holdfast.ending import end_process
from holdfast.garbage import pause
from holdfast.interpreter import complaint

if complaint():  # an older mitmproxy runs on an older Python, which cannot read the rest
    end_process(complaint(), 2)
else:
    pause()
from holdfast.loader import Loader

addons = [Loader()]
