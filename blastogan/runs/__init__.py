"""What lies in a run folder: lock, tables, checkpoints, and how a run resumes.

.. include:: GUIDE.md
"""
