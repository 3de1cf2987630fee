"""ALFWorld: household tasks in text (arXiv 2010.03768), played fast from a folder of its games."""
