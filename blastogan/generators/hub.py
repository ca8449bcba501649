"""Generators on the Hugging Face hub, through the mixin of ``huggingface_hub``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    from huggingface_hub import (
        EvalResult,
        ModelCard,
        ModelCardData,
        ModelHubMixin,
        get_token,
        snapshot_download,
    )
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
except ImportError as error:
    raise ImportError(
        f"the hub needs packages that are missing ({error}): pip install 'blastogan[hub]'"
    ) from error

from blastogan.errors import UserError
from blastogan.generators.card import UNAUDITED
from blastogan.generators.files import SUFFIX, find_trained, read_trained
from blastogan.generators.generator import Generator, read_with_card
from blastogan.grades import CLASSES
from blastogan.metrics.specs import SPECS
from blastogan.pretrained import pretrained_names

LIBRARY, TASK = "blastogan", "unconditional-image-generation"

_TITLES = {spec.name: spec.title for spec in SPECS}


class HubGenerator(Generator, ModelHubMixin, library_name=LIBRARY, pipeline_tag=TASK):
    """A `Generator` with ``from_pretrained``, ``save_pretrained`` and ``push_to_hub``.

    A repository holds the weights, their card as JSON, and as ``README.md`` a card for people.

    Args:
        architecture: See `Generator`, likewise the others.
        settings: Hyper-parameters of the module in training.
        **others: The other arguments.
    """

    def __init__(self, architecture: str, settings: Mapping[str, Any], **others: Any) -> None:
        super().__init__(architecture, settings, **others)
        names = ("architecture", "settings", "resolution", "alpha")
        self._hub_mixin_config = {name: getattr(self, name) for name in names}

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> HubGenerator:  # type: ignore[override]
        """Load a generator from the hub, or whatever `blastogan.load_generator` takes.

        Args:
            source: Repository ``USER/NAME``, path, or name of weights that ship in the package.
            **options: Of the hub: ``revision``, ``token``, ``cache_dir``, ``local_files_only``.

        Raises:
            UserError: If it is not there or damaged, or the hub refuses it.
        """
        if Path(source).exists() or str(source) in pretrained_names():
            path = find_trained(source)
            return cls.from_content(read_with_card(path), str(path))
        with _refusals(str(source)):
            found: HubGenerator = super().from_pretrained(source, **options)
        return found

    def push_to_hub(self, repo_id: str, *, token: str | None = None, **options: Any) -> str:
        """Upload weights and cards, and return the address of the commit.

        Args:
            repo_id: Repository ``USER/NAME``, made if it is missing.
            token: Token with the right to write; by default that of ``hf auth login``.
            **options: Others of the hub, such as ``private`` and ``commit_message``.

        Raises:
            UserError: If there is no token, or the hub refuses it.
        """
        if token is None and get_token() is None:
            raise UserError(f"no token for {repo_id}: run hf auth login, or set HF_TOKEN")
        with _refusals(repo_id):
            return str(super().push_to_hub(repo_id, token=token, **options))

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **others: Any,
    ) -> HubGenerator:
        folder = snapshot_download(
            model_id,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            allow_patterns=[f"*{SUFFIX}", "generator.json"],
        )
        return cls.from_content(read_trained(folder), model_id)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card for people."""
        card = self.full_card
        return ModelCard(f"---\n{model_card_data(card).to_yaml()}\n---\n\n{_text(card)}")


def model_card_data(card: Mapping[str, Any]) -> ModelCardData:
    """Head of a model card, with the figures as results of evaluations."""
    trained = card["trained_on"]
    source = str(trained.get("source", "images"))
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=source,
            dataset_name=f"{source}, {figure.get('against', '')}, N = {figure.get('n_real')}",
            metric_type=name,
            metric_name=f"{_TITLES[name]} ({figure.get('extractor')}, N = {figure.get('n_fake')})",
            metric_value=value,
        )
        for figure in card.get("figures", ())
        for name, value in figure.items()
        if name in _TITLES and isinstance(value, (int, float))
    ]
    return ModelCardData(
        library_name=LIBRARY,
        license=card["licence"],
        tags=[LIBRARY, "gan", "blastocyst", str(card["architecture"])],
        pipeline_tag=TASK,
        model_name=f"{LIBRARY} {card['architecture']}" if results else None,
        eval_results=results or None,
    )


def _text(card: Mapping[str, Any]) -> str:
    trained, side = card["trained_on"], card["resolution"]
    parts = trained.get("parts", {})
    count = f"N = {parts.get('train', trained.get('images', 'unknown'))}"
    classes = trained.get("classes") or card.get("classes_shown") or {}
    names = dict.fromkeys((*CLASSES, *classes))
    counted = [f"{name} {classes[name]}" for name in names if name in classes]
    audit = card["audit_of_copies"]
    lines = [
        f"# Synthetic blastocysts, {side}x{side} pixels",
        "A generator of images of blastocysts. The images are synthetic: none shows an embryo.",
        f"- Architecture: {card['architecture']}, {card['images_shown']} images shown in training",
        f"- Trained on: {trained.get('source', 'unknown')}, {count}",
        f"- Classes: {', '.join(counted) or 'without grades'}",
        f"- Licence: {card['licence'] or 'none stated'}",
        f"- Intended use: {card['intended_use']}",
        f"- Audit of copies of training images: {audit if audit == UNAUDITED else 'attached'}",
        *(f"- {note}" for note in (*card["notes"], *card.get("stated", ()))),
        "",
        "```python",
        "from blastogan.generators import HubGenerator",
        "",
        'images = HubGenerator.from_pretrained("USER/NAME").generate(16, seed=0)',
        "```",
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def _refusals(repository: str) -> Iterator[None]:
    """Turn what the hub refuses into one message."""
    try:
        yield
    except HFValidationError as error:
        raise UserError(f"{repository} is no repository: expected USER/NAME") from error
    except OSError as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        reason = {
            401: "the token is missing or wrong: run hf auth login, or give token=...",
            403: "the token may not do this: give one with the right to write",
            404: "there is no such repository, or the token may not see it",
        }.get(status or 0, str(error).strip().splitlines()[0][:300])
        raise UserError(f"the hub refuses {repository}: {reason}") from error
