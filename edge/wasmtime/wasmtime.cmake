# SPDX-License-Identifier: Apache-2.0
#
# Finds Wasmtime's C API with shared memories: what build.sh built before, else a system libwasmtime, else what build.sh builds now. Makes the
# target tallycast_wasmtime_api; without it the edge serves from the native client, and says so.
set(TALLY_WASMTIME AUTO CACHE STRING "Wasmtime in the edge: AUTO (when it can be had), ON (fail without), OFF")
set_property(CACHE TALLY_WASMTIME PROPERTY STRINGS AUTO ON OFF)

function(tally_wasmtime_found library include how)
  message(STATUS "Wasmtime: ${how} (${library})")
  add_library(tallycast_wasmtime_api INTERFACE)
  # SYSTEM: its headers are not held to our warnings.
  target_include_directories(tallycast_wasmtime_api SYSTEM INTERFACE ${include})
  find_package(Threads REQUIRED)
  target_link_libraries(tallycast_wasmtime_api INTERFACE ${library} Threads::Threads ${CMAKE_DL_LIBS} m gcc_s)
endfunction()

if(NOT TALLY_WASMTIME)
  message(STATUS "Wasmtime: off; the edge serves from the native client")
  return()
endif()

set(tally_wasmtime_build ${CMAKE_CURRENT_LIST_DIR}/build.sh)
execute_process(COMMAND ${tally_wasmtime_build} --find
  OUTPUT_VARIABLE tally_wasmtime_prefix RESULT_VARIABLE tally_wasmtime_failed
  ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT tally_wasmtime_failed)
  tally_wasmtime_found(${tally_wasmtime_prefix}/lib/libtallycast_wasmtime.a ${tally_wasmtime_prefix}/include "built before")
  return()
endif()

find_library(TALLY_WASMTIME_LIBRARY wasmtime)
find_path(TALLY_WASMTIME_INCLUDE wasmtime/sharedmemory.h)
if(TALLY_WASMTIME_LIBRARY AND TALLY_WASMTIME_INCLUDE)
  include(CheckCSourceCompiles)
  set(CMAKE_REQUIRED_INCLUDES ${TALLY_WASMTIME_INCLUDE})
  set(CMAKE_REQUIRED_LIBRARIES ${TALLY_WASMTIME_LIBRARY} m dl pthread)
  # The memory type of today's shape, shared memories, and engines that must be told to allow them.
  check_c_source_compiles("
    #include <wasmtime.h>
    int main(void)
    {
        wasm_config_t *config = wasm_config_new();
        wasmtime_config_wasm_threads_set(config, true);
        wasmtime_config_shared_memory_set(config, true);
        wasm_engine_t *engine = wasm_engine_new_with_config(config);
        wasm_memorytype_t *type = 0;
        wasmtime_sharedmemory_t *memory = 0;
        (void)wasmtime_memorytype_new(1, true, 2, false, true, 16, &type);
        return wasmtime_sharedmemory_new(engine, type, &memory) != 0;
    }" TALLY_WASMTIME_SYSTEM_FITS)
  unset(CMAKE_REQUIRED_INCLUDES)
  unset(CMAKE_REQUIRED_LIBRARIES)
  if(TALLY_WASMTIME_SYSTEM_FITS)
    tally_wasmtime_found(${TALLY_WASMTIME_LIBRARY} ${TALLY_WASMTIME_INCLUDE} "the system's")
    return()
  endif()
endif()

message(STATUS "Wasmtime: building it with cargo (about two minutes, once for this user) ...")
execute_process(COMMAND ${tally_wasmtime_build}
  OUTPUT_VARIABLE tally_wasmtime_prefix ERROR_VARIABLE tally_wasmtime_log RESULT_VARIABLE tally_wasmtime_failed
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_STRIP_TRAILING_WHITESPACE)
if(NOT tally_wasmtime_failed)
  tally_wasmtime_found(${tally_wasmtime_prefix}/lib/libtallycast_wasmtime.a ${tally_wasmtime_prefix}/include "built")
elseif(TALLY_WASMTIME STREQUAL ON)
  message(FATAL_ERROR "TALLY_WASMTIME is ON, but it cannot be had:\n${tally_wasmtime_log}")
else()
  message(WARNING "Wasmtime cannot be had, so the edge is built with the native client only:\n${tally_wasmtime_log}")
endif()
