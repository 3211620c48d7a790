//! Means and covariances of streams of vectors, and the linear algebra on them, in f64.

/// Rows and columns of a panel.
const PANEL: usize = 8;
/// Vectors that are collected before they are added.
const PENDING: usize = 1024;

/// Sums of vectors and of their products.
///
/// Vectors are added in the order in which they come, whatever the number of threads.
pub(crate) struct Moments {
    width: usize,
    threads: usize,
    rows: usize,
    sums: Vec<f64>,
    /// Panel `i` holds rows `8i..8i + 8` of the products, columns from `8i` on.
    panels: Vec<Vec<f64>>,
    pending: Vec<f32>,
}

impl Moments {
    /// Of vectors of `width` elements.
    pub(crate) fn new(width: usize, threads: usize) -> Self {
        let panels = width.div_ceil(PANEL);
        let panel = |i: usize| vec![0.0; PANEL * PANEL * (panels - i)];
        Self {
            width,
            threads: threads.max(1),
            rows: 0,
            sums: vec![0.0; width],
            panels: (0..panels).map(panel).collect(),
            pending: Vec::new(),
        }
    }

    /// Adds vectors, one after the other in `rows`.
    pub(crate) fn add(&mut self, rows: &[f32]) {
        self.pending.extend_from_slice(rows);
        if self.pending.len() >= PENDING * self.width {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.pending);
        let n = rows.len() / self.width.max(1);
        if n == 0 {
            return;
        }
        self.rows += n;
        let mut packed = vec![vec![[0.0_f64; PANEL]; n]; self.panels.len()];
        for (r, row) in rows.chunks_exact(self.width).enumerate() {
            for (c, &v) in row.iter().enumerate() {
                packed[c / PANEL][r][c % PANEL] = f64::from(v);
                self.sums[c] += f64::from(v);
            }
        }
        let packed = &packed;
        let mut shares: Vec<Vec<(usize, &mut Vec<f64>)>> = Vec::new();
        shares.resize_with(self.threads, Vec::new);
        for (i, panel) in self.panels.iter_mut().enumerate() {
            shares[i % self.threads].push((i, panel));
        }
        std::thread::scope(|scope| {
            for share in shares {
                scope.spawn(move || {
                    for (i, panel) in share {
                        let tiles = panel.chunks_exact_mut(PANEL * PANEL);
                        for (tile, other) in tiles.zip(&packed[i..]) {
                            add_products(tile, &packed[i], other);
                        }
                    }
                });
            }
        });
    }

    /// Number of vectors.
    pub(crate) fn rows(&self) -> usize {
        self.rows + self.pending.len() / self.width.max(1)
    }

    /// Means and covariances (`width * width`, both halves).
    pub(crate) fn finish(mut self) -> (Vec<f64>, Vec<f64>) {
        self.flush();
        let (n, width) = (self.rows.max(1) as f64, self.width);
        let means: Vec<f64> = self.sums.iter().map(|s| s / n).collect();
        let mut covariance = vec![0.0; width * width];
        for i in 0..width {
            for j in i..width {
                let tile = &self.panels[i / PANEL][(j / PANEL - i / PANEL) * PANEL * PANEL..];
                let product = tile[i % PANEL * PANEL + j % PANEL] / n;
                let value = product - means[i] * means[j];
                covariance[i * width + j] = value;
                covariance[j * width + i] = value;
            }
        }
        (means, covariance)
    }
}

/// Adds `sum over rows of a[u] * b[v]` to each element of an 8x8 tile.
fn add_products(tile: &mut [f64], a: &[[f64; PANEL]], b: &[[f64; PANEL]]) {
    // Quarters, whose sums fit the registers of every processor.
    for top in [0, 4] {
        for left in [0, 4] {
            let mut sums = [[0.0_f64; 4]; 4];
            for (a, b) in a.iter().zip(b) {
                for u in 0..4 {
                    for v in 0..4 {
                        sums[u][v] += a[top + u] * b[left + v];
                    }
                }
            }
            for (u, sums) in sums.iter().enumerate() {
                let row = &mut tile[(top + u) * PANEL + left..][..4];
                row.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
            }
        }
    }
}

/// The Cholesky factor of a symmetric matrix, and its transpose.
pub(crate) struct Cholesky {
    n: usize,
    lower: Vec<f64>,
    upper: Vec<f64>,
}

impl Cholesky {
    /// Factors `matrix + ridge * mean of the diagonal`. A ridge that is too small for a
    /// factorization is raised tenfold, so that only a matrix with infinite elements gives `None`.
    pub(crate) fn new(matrix: &[f64], n: usize, ridge: f64) -> Option<Self> {
        let mean = (0..n).map(|i| matrix[i * n + i]).sum::<f64>() / n.max(1) as f64;
        if !mean.is_finite() {
            return None;
        }
        let mean = mean.max(1e-30);
        let mut ridge = ridge;
        while ridge < 1e6 {
            if let Some(lower) = factor(matrix, n, ridge * mean) {
                let mut upper = vec![0.0; n * n];
                for i in 0..n {
                    for j in 0..=i {
                        upper[j * n + i] = lower[i * n + j];
                    }
                }
                return Some(Self { n, lower, upper });
            }
            ridge = (ridge * 10.0).max(1e-9);
        }
        None
    }

    /// Solves for one right-hand side, in place.
    pub(crate) fn solve(&self, x: &mut [f64]) {
        let n = self.n;
        for i in 0..n {
            let row = &self.lower[i * n..][..=i];
            x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
        }
        for i in (0..n).rev() {
            let row = &self.upper[i * n..][..n];
            x[i] = (x[i] - dot(&row[i + 1..], &x[i + 1..])) / row[i];
        }
    }

    /// The inverse of the matrix.
    pub(crate) fn inverse(&self) -> Vec<f64> {
        let n = self.n;
        let mut inverse = vec![0.0; n * n];
        for (i, row) in inverse.chunks_exact_mut(n.max(1)).enumerate() {
            row[i] = 1.0;
            self.solve(row);
        }
        inverse
    }
}

fn factor(matrix: &[f64], n: usize, added: f64) -> Option<Vec<f64>> {
    let mut lower = vec![0.0; n * n];
    for i in 0..n {
        let (above, row) = lower.split_at_mut(i * n);
        for j in 0..i {
            let other = &above[j * n..][..=j];
            row[j] = (matrix[i * n + j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let pivot = matrix[i * n + i] + added - dot(&row[..i], &row[..i]);
        if !(pivot > 1e-12 * (matrix[i * n + i] + added) && pivot.is_finite()) {
            return None;
        }
        row[i] = pivot.sqrt();
    }
    Some(lower)
}

/// A dot product in eight sums, in a fixed order.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splitmix::SplitMix64;

    fn rows(n: usize, width: usize) -> Vec<f32> {
        let mut random = SplitMix64::new(5);
        (0..n * width).map(|i| random.centred(1.0) + (i % width) as f32 * 0.1).collect()
    }

    #[test]
    fn moments_are_those_of_the_definition_on_any_number_of_threads() {
        let (n, width) = (2500, 19);
        let rows = rows(n, width);
        let finish = |threads: usize, step: usize| {
            let mut moments = Moments::new(width, threads);
            rows.chunks(step * width).for_each(|r| moments.add(r));
            assert_eq!(moments.rows(), n);
            moments.finish()
        };
        let (means, covariance) = finish(1, 50);
        assert_eq!((means.clone(), covariance.clone()), finish(3, 50));
        for i in 0..width {
            for j in 0..width {
                let column = |c: usize| rows.iter().skip(c).step_by(width).map(|&v| f64::from(v));
                let mean = |c: usize| column(c).sum::<f64>() / n as f64;
                let product: f64 = column(i).zip(column(j)).map(|(a, b)| a * b).sum::<f64>();
                let expected = product / n as f64 - mean(i) * mean(j);
                assert!((mean(i) - means[i]).abs() < 1e-9);
                assert!((expected - covariance[i * width + j]).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn solutions_solve_and_a_singular_matrix_gets_a_ridge() {
        let n = 21;
        let mut moments = Moments::new(n, 1);
        moments.add(&rows(300, n));
        let (_, matrix) = moments.finish();
        let inverse = Cholesky::new(&matrix, n, 0.0).unwrap().inverse();
        for i in 0..n {
            for j in 0..n {
                let product = dot(&matrix[i * n..][..n], &inverse[j * n..][..n]);
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-9);
            }
        }
        assert!(Cholesky::new(&[1.0; 4], 2, 0.0).is_some());
        assert!(Cholesky::new(&[0.0; 4], 2, 1e-6).is_some());
        assert!(Cholesky::new(&[f64::NAN; 4], 2, 1e-6).is_none());
    }
}
