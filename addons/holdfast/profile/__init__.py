"""YAML in, frozen typed settings out, or every fault at once with the line it stands on.

- `values`: durations, sizes and shares; `settings`: what a profile may say.
- `compose` reads YAML with its line marks, `nodes` is the tree that the rest works on, `interpolate` fills in `${ENV}`.
- `entries` and `merge` lay a profile over the one it extends; `shipped` finds the profiles that come with Holdfast.
- `shapes`, `leaves` and `check` hold a tree against the settings classes, `addons` does so for the addon entries.
- `files` and `reading` get from a name to one tree, and `load` drives all of this.
- `describe`, with `schema`, `mask` and `reference`, tells it to people and to tools.
"""
