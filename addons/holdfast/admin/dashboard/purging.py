"""Forgetting what the cache has, by tags, by URLs, or all of it."""

from __future__ import annotations

from holdfast.admin.dashboard.html_page import HtmlPage
from holdfast.admin.dashboard.looking import OVERVIEW, PURGE
from holdfast.admin.dashboard.wording import counted
from holdfast.errors import StoreUnavailable
from holdfast.stores import why_not_purged


class PurgePage(HtmlPage):
    """`/page/purge`. It does not refresh itself: what is being typed would be lost."""

    def get(self) -> None:
        """The forms."""
        if self.gateway.cache is None:
            self.send_error_page(404, "No cache", "The profile has no cache, so there is nothing to purge.")
        else:
            self.show("purge.html", title="Purge the cache")

    async def post(self) -> None:
        """Answered once it holds everywhere; the next page says what was done."""
        cache, soft = self.gateway.cache, self.get_body_argument("soft", "") == "yes"
        what = self.get_body_argument("what", "")
        named = [word for text in self.get_body_arguments("names") for word in text.split()]
        if cache is None:
            self.go(OVERVIEW, "Nothing was purged: the profile has no cache.", good=False)
        elif what == "all" and self.get_body_argument("sure", "") != "yes":
            self.go(PURGE, "Nothing was purged: tick the box that says so to purge everything.", good=False)
        elif what not in ("tags", "urls", "all") or (what != "all" and not named):
            self.go(PURGE, f"Nothing was purged: no {'URL' if what == 'urls' else 'tag'} was named.", good=False)
        else:
            tags, urls = (named if what == "tags" else []), (named if what == "urls" else [])
            try:
                await cache.purge(tags=tags, urls=urls, everything=what == "all", soft=soft)
            except ValueError as e:
                self.go(PURGE, f"Nothing was purged: {e}", good=False)
                return
            except StoreUnavailable as e:
                why = why_not_purged(e)
                self.go(PURGE, why[:1].upper() + why[1:], good=False)
                return
            self.go(PURGE, f"{'Made stale' if soft else 'Purged'}: {_named(what, named)}.", good=True)


def _named(what: str, named: list[str]) -> str:
    if what == "all":
        return "everything"
    first = ", ".join(named[:5]) + (", …" if len(named) > 5 else "")
    return f"{counted(len(named), 'tag' if what == 'tags' else 'URL')}, {first[:500]}"
