/* An owner of a store that a service manager's store keeps, as a program: it loads, says what it found, does what its
 * arguments say, and lives until it is killed.
 *
 *   put:KEY:VALUE:N   a record with N descriptors, memfds in which KEY/VALUE/index is written; what was there goes
 *   churn:KEY:BYTES:N a record of so many bytes, put and committed N times
 *   many:PREFIX:COUNT:N  records PREFIX0 .. with the value "x" and N descriptors each
 *   same:KEY:OTHER    a record OTHER with duplicates of the descriptors of KEY
 *   drop:KEY
 *   commit
 *   wait              until the last commit is kept: X_KEPT=1
 *
 * What it found: X_FOUND= and for each record " KEY=VALUE/N", then "!" where a descriptor is not what it was. */
#ifndef SLC_TEST_OWNER_H
#define SLC_TEST_OWNER_H

int owner_main(int argc, char **argv);

#endif
