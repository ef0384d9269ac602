"""Is every rule of the protocol tested? Each mutant is the code without one of them; some test must fail on it.

* `table`: all mutants, by subject in `voting`, `certificates` and so on: what is changed, which tests must notice;
* `mutation`: changes the source of one module while it is imported;
* `plugin`: pytest with one mutant in force, and which tests failed properly;
* `trial`: one mutant against its tests, in a process of its own;
* `test_mutants.py`, `python -m mutants`: all of them; `readme`: the table for people.
"""
