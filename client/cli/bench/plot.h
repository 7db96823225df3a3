/* Curves of what was measured, as one SVG file.  All functions take NULL for the plot, and then do nothing.
 * Thread: main. */
#ifndef SLOTCAST_CLI_BENCH_PLOT_H
#define SLOTCAST_CLI_BENCH_PLOT_H

#include "histogram.h"

struct plot;
struct plot *plot_new(void);
void plot_free(struct plot *plot);

enum plot_axis {
  PLOT_QUANTILES, /* x is a part of all, 0 .. 1, stretched towards 1 */
  PLOT_STEPS,     /* x is a number; the values that occur stand at equal distances */
};
/* Begins a panel, or goes on with the one of that title.  The strings of panels stay the caller's. */
void plot_panel(struct plot *plot, const char *title, const char *x_label, const char *y_label, enum plot_axis axis);
/* A point of the panel's line of that name, which the plot copies. */
void plot_point(struct plot *plot, const char *line, double x, double y);
/* The distribution of a histogram as a line. */
void plot_distribution(struct plot *plot, const char *line, const struct histogram *histogram);
/* Writes the file; the exit code. */
int plot_write(const struct plot *plot, const char *path);

#endif
