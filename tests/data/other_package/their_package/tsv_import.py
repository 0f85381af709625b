"""Labels as the export beside it writes them."""

from pathlib import Path

from autointerp.tables.foreign_labels import Foreign, ImportedLabels, ImportFormat


def read(path: Path) -> ImportedLabels:
    found = ImportedLabels()
    for line in path.read_text(encoding="utf-8").splitlines():
        feature, tab, text = line.partition("\t")
        if tab and feature.isdecimal():
            found.labels.append(Foreign(int(feature), text, labeler="tsv"))
        else:
            found.unreadable["lines have no feature and label"] += 1
    return found


IMPORT = ImportFormat(name="tsv", about="features and their labels, a line each", read=read)
