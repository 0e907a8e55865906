"""The web page: tabs over the same experiments that the command line runs, and no logic of its own.

`app` opens it; `page` lays it out; `tabs/` has one file per tab; `work` runs an experiment for a
visitor; `show` turns its result into HTML; `guard` and `visitors` keep visitors apart, in bounds.
"""
