"""The web page: tabs over the commands of the command line. Computes nothing itself.

`app` serves the page, `page` lays it out, `tabs/` has one file per tab, `jobs` runs a command for a
visitor, `render` turns its result into HTML; `security`, `uploads` and `user_sessions` keep
visitors apart and within limits.
"""
