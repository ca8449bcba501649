"""Reader of grades in file names."""

from __future__ import annotations

from blastogan.data.readers.builder import TableBuilder
from blastogan.data.readers.cells import part_of
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.path_grades import path_grades
from blastogan.data.readers.tree import ImageTree
from blastogan.data.records import GradedTable


class GradedNameReader:
    """Reader of images whose names hold the grade, see `path_grades`.

    STORK (Khosravi et al. 2019) names them ``<embryo>_<plane>_<grade>``: ``34107362_-15_3AA-.jpg``
    shows embryo 34107362 in the focal plane -15. Images may lie in subfolders, including the
    folders ``train``, ``val`` and ``test`` of a published split. Outside of these, a prefix
    ``good_`` or ``poor_`` marks STORK's test images, if other embryos are left to train on.
    Images without a grade in their name have that of their class folder, if any.
    """

    format = "names"
    layout = (
        "images with the grade in their names, such as 34107362_-15_3AA-.jpg or 3AA (10).bmp; "
        "other forms by grade_pattern"
    )

    def claims(self, tree: ImageTree, options: ReaderOptions) -> bool:
        """Whether half of the names have a grade, or more than lie in class folders."""
        if options.grade_pattern is not None:
            return True
        paths = path_grades(tree, options)
        graded = sum(paths.knows(grade.text) for grade in paths.by_name.values())
        in_folders = sum(paths.knows(grade.text) for grade in paths.by_folder.values())
        return graded > 0 and (2 * graded >= len(tree.images) or graded > in_folders)

    def read(self, tree: ImageTree, options: ReaderOptions) -> GradedTable:
        """Read the names of all images, see `Reader.read`."""
        builder = TableBuilder(tree, self.format, options, source="name")
        paths = builder.paths
        folders = {name: part_of(name.partition("/")[0]) or "" for name in tree.images}
        prefixed = paths.test_prefixes
        rest = {paths.embryos.get(name) for name in paths.by_name if name not in prefixed}
        published = bool(prefixed) and bool(rest - {None})
        for name in tree.images:
            part = folders[name] if "/" in name else ""
            if not part and published and name in paths.by_name:
                part = "test" if name in prefixed else "train"
            builder.add_by_path(name, ("name", "folder"), part)
        builder.embryos_by = "the file name, without grade, focal plane and frame"
        if options.grade_pattern and "embryo" in paths.pattern_groups:
            builder.embryos_by = f"the group embryo of the grade_pattern {options.grade_pattern!r}"
        builder.split_by = "the prefixes good_ and poor_" if published else "folders"
        if paths.unmatched:
            examples = ", ".join(paths.unmatched[:3])
            builder.notes.append(
                f"the grade_pattern finds no grade in {len(paths.unmatched)} of "
                f"{len(tree.images)} images, such as {examples}"
            )
        return builder.build()
