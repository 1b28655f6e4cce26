# SPDX-License-Identifier: Apache-2.0
#
# tallycast.wasm and tallycast-shared.wasm, freestanding, by clang and wasm-ld beside the project's own compiler: those of the WASI SDK
# when WASI_SDK_PREFIX is set (as a CMake or an environment variable), else the system's. Without them the modules are left out.
#
# Sets TALLYCAST_WASM (the module with its own memory), TALLYCAST_WASM_SHARED, and the target tallycast_wasm; or leaves
# TALLYCAST_WASM empty.
set(TALLYCAST_WASM "" CACHE INTERNAL "tallycast.wasm")
set(TALLYCAST_WASM_SHARED "" CACHE INTERNAL "tallycast-shared.wasm")
if(NOT WASI_SDK_PREFIX)
  set(WASI_SDK_PREFIX "$ENV{WASI_SDK_PREFIX}")
endif()
if(WASI_SDK_PREFIX)
  find_program(TALLY_WASM_CLANG clang PATHS ${WASI_SDK_PREFIX}/bin NO_DEFAULT_PATH)
  find_program(TALLY_WASM_LD wasm-ld PATHS ${WASI_SDK_PREFIX}/bin NO_DEFAULT_PATH)
else()
  find_program(TALLY_WASM_CLANG NAMES clang-19 clang)
  find_program(TALLY_WASM_LD NAMES wasm-ld-19 wasm-ld)
endif()
if(NOT TALLY_WASM_CLANG OR NOT TALLY_WASM_LD)
  message(STATUS "tallycast.wasm: left out, no clang and wasm-ld found (Debian: clang-19 lld-19; or set WASI_SDK_PREFIX)")
  return()
endif()

set(tally_wasm_out ${PROJECT_BINARY_DIR}/wasm)
set(tally_wasm_dir ${CMAKE_CURRENT_LIST_DIR})
file(MAKE_DIRECTORY ${tally_wasm_out})
set(tally_wasm_flags
  --target=wasm32-unknown-unknown -std=gnu11 -O2 -g0 -DNDEBUG -ffreestanding -fvisibility=hidden -msimd128 -mbulk-memory
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Wwrite-strings -Werror
  -isystem ${tally_wasm_dir}/libc/include
  -I ${PROJECT_SOURCE_DIR}/proto/include -I ${PROJECT_SOURCE_DIR}/client-wasm/include)
file(STRINGS ${tally_wasm_dir}/exports.txt tally_wasm_exports)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${tally_wasm_dir}/exports.txt)
list(TRANSFORM tally_wasm_exports PREPEND --export=)

# One module: name, its stacks file, compiler flags, linker flags.
function(tally_wasm_module name stacks)
  cmake_parse_arguments(MODULE "" "" "COMPILE;LINK" ${ARGN})
  set(objects)
  foreach(source ${TALLY_CLIENT_SOURCES} ${TALLY_PROTO_SOURCES} ${tally_wasm_dir}/module.c ${tally_wasm_dir}/tally_module.c
                 ${tally_wasm_dir}/${stacks} ${tally_wasm_dir}/libc/string.c)
    get_filename_component(base ${source} NAME_WE)
    set(object ${tally_wasm_out}/${name}.objects/${base}.o)
    set(extra)
    if(source MATCHES "libc/")
      set(extra -fno-builtin)
    endif()
    add_custom_command(OUTPUT ${object}
      COMMAND ${TALLY_WASM_CLANG} ${tally_wasm_flags} ${MODULE_COMPILE} ${extra} -MD -MF ${object}.d -c ${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d COMMENT "Compiling ${base}.c for ${name}.wasm" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  file(MAKE_DIRECTORY ${tally_wasm_out}/${name}.objects)
  add_custom_command(OUTPUT ${tally_wasm_out}/${name}.wasm
    COMMAND ${TALLY_WASM_LD} --no-entry --gc-sections --strip-debug --stack-first -z stack-size=131072 --fatal-warnings
      ${tally_wasm_exports} --export=__stack_pointer ${MODULE_LINK} ${objects} -o ${tally_wasm_out}/${name}.wasm
    DEPENDS ${objects} COMMENT "Linking ${name}.wasm" VERBATIM)
endfunction()

tally_wasm_module(tallycast stacks_none.c)
# The stacks of instances must be there before the first call: see module.h. 4 MiB of them, and what comes before.
tally_wasm_module(tallycast-shared stacks_shared.c
  COMPILE -matomics
  LINK --import-memory --shared-memory --initial-memory=5242880 --max-memory=4294967296)

add_custom_target(tallycast_wasm ALL DEPENDS ${tally_wasm_out}/tallycast.wasm ${tally_wasm_out}/tallycast-shared.wasm)
set(TALLYCAST_WASM ${tally_wasm_out}/tallycast.wasm CACHE INTERNAL "tallycast.wasm")
set(TALLYCAST_WASM_SHARED ${tally_wasm_out}/tallycast-shared.wasm CACHE INTERNAL "tallycast-shared.wasm")
install(FILES ${TALLYCAST_WASM} ${TALLYCAST_WASM_SHARED} DESTINATION ${CMAKE_INSTALL_DATADIR}/tallycast COMPONENT client)
