"""What the options of `hotstuff sim` mean, and which of them are mistakes. Imported by the command when it runs."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from hotstuff.cli.main import PROTOCOLS
from hotstuff.errors import ConfigError
from hotstuff.simulator.campaign import ENDLESS, Campaign, Means, byzantine_max, splittable
from hotstuff.simulator.strategies import STRATEGIES
from hotstuff.types.validators import MAX_TOTAL_POWER

# A simulation of more takes hours for one seed.
NODES_MAX = 256
JOBS_MAX = 1024
SEED_MAX = 2**62
DEFAULT_LAST = 99
VIEWS_MAX = 64
# Options of `hotstuff sim` without a meaning for twins, and their defaults.
ALIEN_TO_TWINS = {
    **dict.fromkeys(("byzantine", "seeds", "minutes", "powers", "sticky", "strategy", "picture")),
    **dict.fromkeys(("control", "trace", "shrink"), False),
    **{"mode": "safety", "signatures": "stand-in", "duration": 2.0},
}


def protocols_of(options: argparse.Namespace) -> tuple[str, ...]:
    """One, or all of them."""
    return PROTOCOLS if options.protocol == "all" else (options.protocol,)


def campaigns_of(options: argparse.Namespace) -> list[Campaign]:
    """A campaign for each protocol; raises `ConfigError`."""
    check_common(options)
    _check_one(options)
    within("--duration", options.duration, 0.01, 86_400)
    if options.minutes is not None:
        within("--minutes", options.minutes, 0.001, 1_000_000)
    if options.sticky is not None:
        within("--sticky", options.sticky, 1, 64)
    if options.strategy is not None and options.strategy not in STRATEGIES:
        raise ConfigError("--strategy", options.strategy, ", ".join(sorted(STRATEGIES)))
    if options.control and (options.mode != "safety" or options.strategy or options.powers):
        raise ConfigError("--control", "with --mode liveness, --strategy or --powers", "none of these")
    powers = _powers(options)
    first, last = _seeds(options)
    return [
        Campaign(
            protocol=protocol,
            nodes=options.nodes,
            byzantine=_byzantine(options, powers),
            mode=options.mode,
            first=first,
            last=last,
            signatures=options.signatures,
            powers=powers,
            sticky=options.sticky or 0,
            strategy=options.strategy or "",
            duration_s=options.duration,
            control=options.control,
        )
        for protocol in protocols_of(options)
    ]


def within(name: str, value: float, low: float, high: float) -> None:
    """Raises `ConfigError` unless it is."""
    if not low <= value <= high:
        raise ConfigError(name, value, f"{low} to {high}")


def check_common(options: argparse.Namespace) -> None:
    """What `hotstuff sim` and `hotstuff sim twins` have in common."""
    within("--nodes", options.nodes, 1, NODES_MAX)
    within("--jobs", options.jobs, 1, JOBS_MAX)
    if options.seed is not None:
        within("--seed", options.seed, 0, SEED_MAX)
    if options.json not in (None, "-") and not Path(options.json).parent.is_dir():
        raise ConfigError("--json", options.json, "a file in a directory that exists, or -")


def _check_one(options: argparse.Namespace) -> None:
    """Some options are about one run."""
    given = [name for name in ("trace", "shrink", "picture") if getattr(options, name)]
    for name in given:
        if options.seed is None or options.protocol == "all":
            raise ConfigError(f"--{name}", "without --seed, or with --protocol all", "one seed of one protocol")
        if options.json == "-":
            raise ConfigError("--json", "-", f"a file, together with --{name}")
        if options.resume is not None:
            raise ConfigError("--resume", str(options.resume), f"not together with --{name}")
    picture = options.picture
    if picture is not None and (picture.suffix != ".svg" or not picture.parent.is_dir()):
        raise ConfigError("--picture", str(picture), "a name that ends in .svg, in a directory that exists")


def _powers(options: argparse.Namespace) -> tuple[int, ...]:
    if options.powers is None:
        return ()
    allowed = f"{options.nodes} positive numbers like 3,1,1,1 (as many as --nodes)"
    try:
        powers = tuple(int(power) for power in options.powers.split(","))
    except ValueError:
        raise ConfigError("--powers", options.powers, allowed) from None
    if len(powers) != options.nodes or min(powers) < 1 or sum(powers) > MAX_TOTAL_POWER:
        raise ConfigError("--powers", options.powers, allowed)
    return powers


def _byzantine(options: argparse.Namespace, powers: tuple[int, ...]) -> int:
    count: int | None = options.byzantine
    if options.control:
        least, most = splittable(options.nodes), options.nodes - 2
        if least > most:
            raise ConfigError("--nodes", options.nodes, "enough for two honest ones and a third of others (--control)")
        count = least if count is None else count
        if not least <= count <= most:
            raise ConfigError("--byzantine", count, f"{least} to {most} of {options.nodes} validators with --control")
        return count
    most = byzantine_max(options.nodes, powers)
    count = most if count is None else count
    if not 0 <= count <= most:
        raise ConfigError("--byzantine", count, f"0 to {most}: less than a third of the power (see --control)")
    if options.strategy and not count:
        raise ConfigError("--strategy", options.strategy, "only with Byzantine validators, and there are none")
    return count


def _seeds(options: argparse.Namespace) -> tuple[int, int]:
    if options.seed is not None:
        return options.seed, options.seed
    if options.seeds is None:
        return 0, DEFAULT_LAST if options.minutes is None else ENDLESS
    first, dash, last = options.seeds.partition("-")
    if not (first.isdecimal() and (last.isdecimal() if dash else not last)):
        raise ConfigError("--seeds", options.seeds, "two numbers like 0-99")
    ends = int(first), int(last or first)
    if not ends[0] <= ends[1] <= SEED_MAX:
        raise ConfigError("--seeds", options.seeds, f"two ascending numbers up to {SEED_MAX}")
    return ends


def check_twins(options: argparse.Namespace) -> None:
    """What `hotstuff sim twins` is asked for."""
    check_common(options)
    for name, usual in ALIEN_TO_TWINS.items():
        if getattr(options, name) != usual:
            raise ConfigError(f"--{name}", getattr(options, name), "not together with twins")
    within("--twins", options.twins, 0, options.nodes)
    within("--views", options.views, 1, VIEWS_MAX)
    if options.sample is not None:
        within("--sample", options.sample, 1, SEED_MAX)
    elif (options.nodes - options.twins) % 2 == 0:
        raise ConfigError("--sample", "not given", "a number, if as many as an even number of validators are no twins")


def means_of(options: argparse.Namespace, campaign: Campaign) -> Means:
    """How it is run."""
    return Means(jobs=options.jobs, minutes=options.minutes, resume=resume_of(options, campaign.protocol))


def resume_of(options: argparse.Namespace, protocol: str) -> Path | None:
    """With several protocols, each has a directory of its own below that of `--resume`."""
    resume: Path | None = options.resume
    if resume is None or options.protocol != "all":
        return resume
    if (resume / "run.json").exists():
        raise ConfigError("--resume", str(resume), "a directory for all protocols; this is that of one")
    return resume / protocol


def command(campaign: Campaign, seed: int) -> str:
    """What shows one seed again."""
    usual = Campaign()
    words = ["hotstuff sim"]
    for field in fields(Campaign):
        name, value = field.name, getattr(campaign, field.name)
        if name in ("first", "last") or (value == getattr(usual, name) and name != "byzantine"):
            continue
        option = f"--{name.removesuffix('_s')}"
        if name == "control":
            words.append(option)
        elif name == "powers":
            words.append(f"{option} {','.join(map(str, value))}")
        else:
            words.append(f"{option} {value:g}" if isinstance(value, float) else f"{option} {value}")
    return " ".join((*words, f"--seed {seed}"))
