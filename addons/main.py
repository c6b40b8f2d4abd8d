"""For `mitmdump -s addons/main.py --set holdfast=PROFILE` (and mitmweb): puts the profile's chain onto mitmproxy."""

from holdfast.loader import Loader

addons = [Loader()]
