/* Curves of what was measured, as one SVG file.  All functions but plot_open take NULL for the plot, and then do
 * nothing.  Thread: main. */
#ifndef SLOTCAST_CLI_BENCH_PLOT_H
#define SLOTCAST_CLI_BENCH_PLOT_H

#include "histogram.h"

struct plot;
/* The file is opened before anything is measured, so that one that cannot be written is told at once; what it has stays
 * until plot_write.  The exit code. */
int plot_open(const char *path, struct plot **ret_plot);
/* A file that plot_open made and nobody wrote is removed. */
void plot_free(struct plot *plot);

enum plot_axis {
  PLOT_QUANTILES, /* x is a part of all, 0 .. 1, stretched towards 1 */
  PLOT_STEPS,     /* x is a number; the values that occur stand at equal distances */
  PLOT_NUMBERS,   /* x is a number from 0 on */
};
enum plot_unit { PLOT_COUNT, PLOT_BYTES, PLOT_NS, PLOT_RATE, PLOT_PER_CENT };
/* A kind of panel; its strings stay the caller's. */
struct plot_kind {
  const char *title, *x_label, *y_label;
  enum plot_axis axis;
  enum plot_unit x_unit, y_unit;
};
/* Begins a panel, or goes on with the one of that title. */
void plot_panel(struct plot *plot, const struct plot_kind *kind);
/* A point of the panel's line of that name, which the plot copies; in any order. */
void plot_point(struct plot *plot, const char *line, double x, double y);
/* The panel's line of that name is what the machine does without us: it is dashed. */
void plot_limit(struct plot *plot, const char *line);
/* The distribution of a histogram as a line. */
void plot_distribution(struct plot *plot, const char *line, const struct histogram *histogram);
/* "64 KiB", as at the axes. */
const char *plot_size(uint64_t size, char text[32]);
/* Writes the file, with a caption that says how it was measured; the exit code. */
int plot_write(struct plot *plot, const char *caption);

#endif
