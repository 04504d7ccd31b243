"""The lines of the one table that `make torture` ends with."""

from dataclasses import dataclass, field


@dataclass
class Line:
    """A kind of ill-treatment: how often it was done, what was checked each time, and what was lost."""

    kind: str
    checked: str
    count: int = 0
    lost: list[str] = field(default_factory=list)

    def tell(self, wrong: str | None) -> None:
        """Count one case; `wrong` says what was lost in it, None if nothing."""
        self.count += 1
        if wrong:
            self.lost.append(wrong)
            print(f"LOST in {self.kind}: {wrong}", flush=True)


def markdown(lines: list[Line]) -> str:
    """The table."""
    rows = [f"| {line.kind} | {line.count:,} | {line.checked} | {len(line.lost)} |" for line in lines]
    return "\n".join(["| kind | how many | what was checked each time | lost |", "|---|---:|---|---:|", *rows])
