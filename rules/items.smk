"""What the items of every paper have in the same way: size, caption, title and label; no rule.

In: figures.{paper} of the configuration, resources/captions/{paper}. Out: functions of a paper, each
of which gives a function of the wildcards, which have the item.
"""


def item_style(paper):
    """Sizes of the item's figure."""
    return lambda wildcards: config["figures"][paper][wildcards.item]


def item_caption(paper):
    """The item's caption in the report; its first line is the item's title."""
    folder = RESOURCES / "captions" / paper
    return lambda wildcards: (folder / f"{wildcards.item}.rst").read_text(encoding="utf-8")


def item_title(paper):
    """The first line of the caption, without its full stop."""
    caption = item_caption(paper)
    return lambda wildcards: caption(wildcards).split("\n", 1)[0].removesuffix(".")


def item_labels(paper):
    """The item's name in the report, such as "Figure 2: In which layers ..."."""
    title = item_title(paper)

    def labels(wildcards):
        name = wildcards.item.replace("figure", "Figure ").replace("table", "Table ")
        return {"item": f"{name[:1].upper()}{name[1:]}: {title(wildcards)}"}

    return labels
