"""The control surface on its own listener: health, metrics, captures, configuration.

`listener` is the addon that starts and stops it, `pages` has one class per kind of page, `access` decides who may ask,
`health` gathers what the components say of themselves.
"""
