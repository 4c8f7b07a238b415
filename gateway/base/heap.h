/*
 * The C library's heap, kept small: what bursts leave behind is given back to the system.
 */
#ifndef HOLDFAST_BASE_HEAP_H
#define HOLDFAST_BASE_HEAP_H

/* One arena, large blocks mapped on their own. Called once at the start of a process. */
void heap_setup(void);

/*
 * Gives free heap memory back when there has come to be much of it since the last time. Called about once a
 * second; cheap when there is nothing to do.
 */
void heap_tidy(void);

#endif
