//! A choice of cells of a product in which each value of one factor meets each value of every other, where that is possible.

use std::collections::BTreeSet;

/// A cell: the number of the value of each factor.
pub(crate) type Cell = Vec<usize>;

/// A pair: two factors, each with a value.
type Pair = (usize, usize, usize, usize);

fn pairs(cell: &Cell) -> Vec<Pair> {
    let mut found = Vec::new();
    for one in 0..cell.len() {
        for other in one + 1..cell.len() {
            found.push((one, cell[one], other, cell[other]));
        }
    }
    found
}

/// Every possible cell.
pub(crate) fn product(sizes: &[usize], possible: impl Fn(&Cell) -> bool) -> Vec<Cell> {
    let mut cells: Vec<Cell> = vec![Vec::new()];
    for size in sizes {
        let longer = |cell: &Cell| {
            let cell = cell.clone();
            (0..*size).map(move |value| [cell.as_slice(), &[value]].concat())
        };
        cells = cells.iter().flat_map(longer).collect();
    }
    cells.retain(possible);
    cells
}

/// The cells that cover each pair which any possible cell has: always the one with most new pairs next.
pub(crate) fn covering(possible: &[Cell]) -> Vec<Cell> {
    let mut open: BTreeSet<Pair> = possible.iter().flat_map(pairs).collect();
    let mut chosen = Vec::new();
    while !open.is_empty() {
        let new = |cell: &&Cell| pairs(cell).iter().filter(|pair| open.contains(pair)).count();
        // Of equals the last: any would do.
        let Some(best) = possible.iter().max_by_key(new) else { break };
        for pair in pairs(best) {
            open.remove(&pair);
        }
        chosen.push(best.clone());
    }
    chosen
}
