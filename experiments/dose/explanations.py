"""What the page of the table of doses says between its tables."""

from __future__ import annotations

from experiments.dose import contestants

INTRODUCTION = f"""\
Every score but those of repeated frames is against the expected counts, which simulation knows,
and crops of many counts nearly do. Rivals are tuned: their parameter is that of highest PSNR on
other fields, two of the same lattice and dose, inside the generalised Anscombe transform with its
exact unbiased inverse; the Gaussian, which is linear, works on the counts. Ours know no dose. Of
what STEM's `..._clean` learnt, about a third are lattices of all kinds; `..._columns` learnt of
lattices alone since it left `..._clean`, three in five of them near these, the others as far from
them as any table here goes. `..._benchmark` learnt of these two lattices alone, as the U-Net did
that is cited: it counts as none of ours, and is in the tables of lattices only. Each table shows of
our models the best of each family by mean PSNR.
`{contestants.FIT}` is `emd denoise --model fit`: a kernel fitted to each image;
`{contestants.PUT_BACK.strip()}` puts back what the residual shows beyond the noise."""

PUBLISHED = """\
*Dose*: counts at the peak of a lone bright column. The U-Net's figures are cited from the
published benchmark; it was trained on these lattices alone, at each dose, and was not run here."""

FAINT = """\
Columns within 3 px of a detected one are hits. F1 counts the faint columns hit and missed, and as
false ones all detections that match no column, faint or bright. The published rules take maxima in
a square, whose corners reach a bright neighbour's flank, and centres of mass over few pixels, which
lean to the pixel grid: by them *the truth itself* misses a few faint columns, and has an error of
position. Where a figure is as good as the truth's, or better, it tells no more."""

GRIDS = """\
Ours less theirs in brackets. Fields are drawn anew, so that they differ by chance; where the
Gaussian is above the published one by more, its grid is finer here."""

SPACING = """\
Honeycombs of other distances between neighbours, the probe the same. A minus is a loss against
the tuned Gaussian."""

TRUST = """\
*Slope* and *offset*: of the line of restored on true counts, the offset as a fraction of their
range; 1 and 0 keep intensities comparable. *Whiteness*: root mean square of the residual's
autocorrelation up to 4 px, 0 for noise alone. *Checkerboard*: root mean square of a grid of
period 8 px in the error, as a fraction of the mean. *s / Mpx*: seconds a megapixel on one core,
of 512x512 px."""

DEFAULTS = f"""\
On the image scaled to [0, 1], with the values that their libraries set
("{contestants.DEFAULTS.strip()}"; the Gaussian and the median 3x3, the bilateral 9, 75, 75 and
Bregman's weight 0.1 as Ede has them; BM3D with an estimated noise)."""

EDE = """\
Poisson noise at 25 to 100 counts at the brightest pixel. *His way*: rivals as their libraries
give them, PSNR over [0, 1], SSIM over the range of the image restored. *Fair*: rivals tuned
inside the transform, on other exposures of three of the crops (TEM has two); PSNR [dB] and SSIM
over the range of the truth. TEM's real crops are two nearly equal LACBED diffraction patterns: no
TEM image at hand has counts high enough for a truth."""

REPEATED = """\
If frames of one place differ by their noise alone, the error of one that is restored is known from
the others, though the truth is not (uPSNR, arXiv:2210.05553; ± is its standard error, most of which
all share). Drift counts as error. The range is between percentiles 1 and 99 of the mean of all.
Rivals are tuned on another frame of this very place, which is in their favour."""
