"""One file for each format of log, each with one ``LogFormat``."""
