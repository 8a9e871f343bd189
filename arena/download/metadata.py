"""metadata/: the site's address, its tag aliases and its implications."""

from arena import files, jsonl
from arena.cli import progress, say
from arena.data_folder import DataFolder
from arena.download.danbooru import Client


def fetch_metadata(client: Client, data: DataFolder, *, again: bool) -> None:
    """Write the site's address, and fetch tag aliases and implications: the file that is missing,
    or both where `again`.

    Raises UserError when the site kept failing.
    """
    data.metadata.mkdir(exist_ok=True)
    files.sweep(data.metadata)
    files.write_text(data.site, f"{client.site.url}\n")
    for name in ("tag_aliases", "tag_implications"):
        path = data.tag_rows(name)
        if path.exists() and not again:
            continue
        count = 0
        with files.atomic(path) as file, progress(desc=name, unit="row") as bar:
            for rows in client.all_rows(name):
                file.writelines(map(jsonl.line, rows))
                bar.update(len(rows))
                count += len(rows)
        say(f"{path}: {count} rows")
