/* SPDX-License-Identifier: Apache-2.0 */
/* Planted bugs: a build for tests/sim can switch one on, to see that the simulator finds it. */
#ifndef STORAGE_STORE_MUTANT_H
#define STORAGE_STORE_MUTANT_H

#ifdef VSTORE_MUTANTS
extern int vstore_mutant;
#define MUTANT(number) (vstore_mutant == (number))
#else
#define MUTANT(number) 0
#endif

#endif
