"""Is every rule of the protocol tested? Each mutant is the code without one of them; some test must fail on it.

table.py      all mutants: what is changed, which tests must notice
mutation.py   changes the source of one module while it is imported
plugin.py     pytest with one mutant in force (`-p mutants.plugin`), and which tests failed properly
trial.py      one mutant against its tests, in a process of its own
test_mutants.py, `python -m mutants`   all of them
"""
