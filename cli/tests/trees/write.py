"""Writes the folder given first as an archive in the format given second: Python's own writer."""
import os
import sys
import tarfile

folder, kind, archive = sys.argv[1:]
if kind == "read":
    with tarfile.open(archive) as tar:
        # Later versions ask how far an archive is trusted.
        trust = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
        tar.extractall(folder, numeric_owner=True, **trust)
else:
    with tarfile.open(archive, "w", format=getattr(tarfile, kind + "_FORMAT"), errors="surrogateescape") as tar:
        tar.add(folder, ".")
