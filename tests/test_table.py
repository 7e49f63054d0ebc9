from hypothesis import given
from hypothesis import strategies as st

from loev_jax import table

CELL = st.text(st.characters(codec="ascii", exclude_characters="|\n\r\t\x0b\x0c\x1c\x1d\x1e\x1f"),
               max_size=8).map(str.strip)  # fmt: skip


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n),
                                                    min_size=1, max_size=6)))  # fmt: skip
def test_cells_are_read_back_from_aligned_columns(rows):
    head, *body = rows
    lines = table.markdown(head, body).split("\n")
    assert len({len(line) for line in lines}) == 1
    read = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [read[0], *read[2:]] == rows
    assert all(set(rule) == {"-"} and len(rule) >= 3 for rule in read[1])
