// SPDX-License-Identifier: Apache-2.0
#include <sums/sums.h> // IWYU pragma: export
