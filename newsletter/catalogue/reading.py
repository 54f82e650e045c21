"""Reading the catalogue: the files, their faults, and what one file says of another."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    ValidationError,
)

from newsletter.catalogue.newsletters import Newsletter
from newsletter.catalogue.publication import Publication, Weights
from newsletter.catalogue.values import Value
from newsletter.errors import CatalogueError, NotFound
from newsletter.faults import first as first_fault

Model = TypeVar("Model", bound=BaseModel)


class Catalogue(Value):
    """The publication and its newsletters, by slug, in the order of their folders' names."""

    publication: Publication
    newsletters: tuple[Newsletter, ...]
    root: Path

    def __getitem__(self, slug: str) -> Newsletter:
        """
        Return the newsletter of that slug.

        Raises:
            NotFound: names what there is.
        """
        for newsletter in self.newsletters:
            if newsletter.slug == slug:
                return newsletter
        known = ", ".join(newsletter.slug for newsletter in self.newsletters)
        raise NotFound(f"There is no newsletter {slug!r}. There are: {known}.")


def load_catalogue(root: Path) -> Catalogue:
    """
    Read ``publication.toml`` and every ``<slug>/newsletter.toml`` under *root*.

    Raises:
        CatalogueError: a file is missing or wrong; the message names file, field and the fault.
    """
    family, hellos = (
        _toml(path) if path.is_file() else {}
        for path in (root / "_shared" / "theme.toml", root / "_shared" / "hello.toml")
    )
    publication = _read(root / "publication.toml", Publication, theme=family, hellos=hellos.get("hello", ()))
    folders = sorted(
        path.parent for path in root.glob("*/newsletter.toml") if not path.parent.name.startswith("_")
    )
    if not folders:
        raise CatalogueError(
            f"There is no newsletter under {root}: each is a folder with a newsletter.toml.", file=str(root)
        )
    look = publication.theme.model_dump()
    newsletters = tuple(
        _read(folder / "newsletter.toml", Newsletter, theme=look, slug=folder.name) for folder in folders
    )
    for newsletter in newsletters:
        _check_plans(publication, newsletter, root / newsletter.slug / "newsletter.toml")
        _check_reminders(publication, newsletter, root / newsletter.slug / "newsletter.toml")
    return Catalogue(publication=publication, newsletters=newsletters, root=root)


def read_weights(path: Path, present: Weights) -> Weights:
    """
    *present* with what a file of weights changes, for trying them out.

    Raises:
        CatalogueError: the file cannot be used; names file, field and fault.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogueError(f"{path} cannot be read: {error.strerror}.", file=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path} is not readable TOML: {error}.", file=str(path)) from error
    changed = data.get("weights", data)
    before = present.model_dump()
    merged = {
        name: {**before[name], **value} if isinstance(value, dict) and name in before else value
        for name, value in changed.items()
    }
    try:
        return Weights.model_validate({**before, **merged})
    except ValidationError as error:
        raise _fault_in(path, error) from error


def _check_plans(publication: Publication, newsletter: Newsletter, path: Path) -> None:
    known = [plan.id for plan in publication.plans]
    unknown = [plan for plan in newsletter.audience.plans if plan not in known]
    if unknown:
        raise CatalogueError(
            f"{path}: audience.plans: there is no plan {unknown[0]!r} in publication.toml; there are {', '.join(known)}.",
            file=str(path), field="audience.plans",
        )  # fmt: skip
    if newsletter.audience.trial_ends_within_days and not publication.trial_plans:
        raise CatalogueError(
            f"{path}: audience.trial_ends_within_days: no plan in publication.toml says trial = true.",
            file=str(path), field="audience.trial_ends_within_days",
        )  # fmt: skip


def _check_reminders(publication: Publication, newsletter: Newsletter, path: Path) -> None:
    known = {reminder.id: reminder for reminder in publication.reminders}
    for one in newsletter.reminders:
        if one not in known:
            fault = (
                f"there is no reminder {one!r} in publication.toml; there are {', '.join(known) or 'none'}."
            )
        elif "paying" not in newsletter.audience.classes:
            fault = "only paying readers have a plan that ends; this newsletter is not for them."
        elif known[one].trial_ends_within_days and not publication.trial_plans:
            fault = f"{one} speaks of trials, but no plan in publication.toml says trial = true."
        else:
            continue
        raise CatalogueError(f"{path}: reminders: {fault}", file=str(path), field="reminders")


def _read(path: Path, model: type[Model], *, theme: dict[str, Any], **given: Any) -> Model:
    """The *model* that a file holds; its ``[theme]`` says what differs from *theme*."""
    data = _toml(path)
    own = data.get("theme", {})
    look = {**theme, **own} if isinstance(own, dict) else own
    try:
        return model.model_validate({**data, "theme": look, **given})
    except ValidationError as error:
        raise _fault_in(path, error) from error


def _fault_in(path: Path, error: ValidationError) -> CatalogueError:
    field, fault = first_fault(error)
    return CatalogueError(f"{path}: {f'{field}: ' if field else ''}{fault}.", file=str(path), field=field)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CatalogueError(f"{path} is missing.", file=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path} is not readable TOML: {error}.", file=str(path)) from error
