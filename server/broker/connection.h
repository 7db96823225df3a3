/* Connections: one client's socket, what is queued for it, and what is left when it ends. */
#ifndef SLC__BROKER_CONNECTION_H
#define SLC__BROKER_CONNECTION_H

#include "broker/draft.h"

/* Takes over `fd` in every case; one that is not admitted is told why. */
void slc__conn_accept(struct slc__broker *broker, int fd);
/* Its users stay until their process ends (slc__process_died) or runs another program. */
void slc__conn_close(struct slc__conn *conn, int status, const char *why);

/* Sends, or queues behind what is queued already; a connection for which neither is possible ends soon, by itself. */
void slc__conn_send(struct slc__conn *conn, const struct slc__draft *draft);
/* The same for answers: a client that asks on and on and reads nothing loses its connection. */
void slc__conn_answer(struct slc__conn *conn, const struct slc__draft *draft);
/* Answers with a status and slc__fail's sentence. */
void slc__conn_refuse(struct slc__conn *conn, uint64_t serial, int status);
/* Nothing is queued. */
bool slc__conn_is_clear(const struct slc__conn *conn);

#endif
