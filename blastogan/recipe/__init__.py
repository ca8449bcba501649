"""Settings that follow from the number of images, their size and the batch.

.. include:: GUIDE.md
"""
