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
  if(NOT TALLY_WASM_CLANG OR NOT TALLY_WASM_LD)
    message(FATAL_ERROR "WASI_SDK_PREFIX is ${WASI_SDK_PREFIX}, but clang and wasm-ld are not in its bin/")
  endif()
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
set(TALLY_WASM_FLAGS
  --target=wasm32-unknown-unknown -std=gnu11 -O2 -flto -g0 -DNDEBUG -ffreestanding -fvisibility=hidden -msimd128 -mbulk-memory
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Wwrite-strings -Werror
  -isystem ${tally_wasm_dir}/libc/include -I ${tally_wasm_dir}
  -I ${PROJECT_SOURCE_DIR}/proto/include -I ${PROJECT_SOURCE_DIR}/client-wasm/include CACHE INTERNAL "")
file(STRINGS ${tally_wasm_dir}/exports.txt tally_wasm_exports)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${tally_wasm_dir}/exports.txt)
list(TRANSFORM tally_wasm_exports PREPEND --export=)
set(TALLY_WASM_LINK_ALONE --no-entry --gc-sections --strip-debug --stack-first -z stack-size=131072 --fatal-warnings --lto-O2 CACHE INTERNAL "")
set(TALLY_WASM_LINK ${TALLY_WASM_LINK_ALONE} ${tally_wasm_exports} --export=__stack_pointer CACHE INTERNAL "")
# Of the shared module. Its memory's size is given where it is linked.
set(TALLY_WASM_SHARED_COMPILE -matomics CACHE INTERNAL "")
set(TALLY_WASM_SHARED_LINK --import-memory --shared-memory --max-memory=4294967296 CACHE INTERNAL "")

# tally_wasm_module(NAME SOURCES FILE... [OBJECTS FILE...] [COMPILE FLAG...] [LINK FLAG...] [WITHOUT_ABI]): NAME.wasm of the sources and of objects
# made before. It exports the ABI of module.h, unless WITHOUT_ABI is said. The sources' objects are left in NAME_objects of the caller.
function(tally_wasm_module name)
  cmake_parse_arguments(MODULE "WITHOUT_ABI" "" "SOURCES;OBJECTS;COMPILE;LINK" ${ARGN})
  set(out ${PROJECT_BINARY_DIR}/wasm)
  set(objects)
  foreach(source ${MODULE_SOURCES})
    get_filename_component(base ${source} NAME_WE)
    set(object ${out}/${name}.objects/${base}.o)
    set(extra)
    if(source MATCHES "libc/")
      set(extra -fno-builtin -fno-lto)
    endif()
    add_custom_command(OUTPUT ${object}
      COMMAND ${TALLY_WASM_CLANG} ${TALLY_WASM_FLAGS} ${MODULE_COMPILE} ${extra} -MD -MF ${object}.d -c ${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d COMMENT "Compiling ${base}.c for ${name}.wasm" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  file(MAKE_DIRECTORY ${out}/${name}.objects)
  set(link ${TALLY_WASM_LINK})
  if(MODULE_WITHOUT_ABI)
    set(link ${TALLY_WASM_LINK_ALONE})
  endif()
  add_custom_command(OUTPUT ${out}/${name}.wasm
    COMMAND ${TALLY_WASM_LD} ${link} ${MODULE_LINK} ${objects} ${MODULE_OBJECTS} -o ${out}/${name}.wasm
    DEPENDS ${objects} ${MODULE_OBJECTS} COMMENT "Linking ${name}.wasm" VERBATIM)
  set(${name}_objects ${objects} PARENT_SCOPE)
endfunction()

set(tally_wasm_sources ${TALLY_CLIENT_SOURCES} ${TALLY_PROTO_SOURCES} ${tally_wasm_dir}/module.c ${tally_wasm_dir}/tally_module.c
  ${tally_wasm_dir}/libc/string.c)
tally_wasm_module(tallycast SOURCES ${tally_wasm_sources} ${tally_wasm_dir}/stacks_none.c)
# The stacks of instances must be there before the first call: see module.h. 4 MiB of them, and what comes before.
tally_wasm_module(tallycast-shared SOURCES ${tally_wasm_sources} ${tally_wasm_dir}/stacks_shared.c
  COMPILE ${TALLY_WASM_SHARED_COMPILE} LINK ${TALLY_WASM_SHARED_LINK} --initial-memory=5242880)
# For guests that are linked with all of a module: their own sources beside these objects.
set(TALLYCAST_WASM_OBJECTS ${tallycast_objects} CACHE INTERNAL "")
set(TALLYCAST_WASM_SHARED_OBJECTS ${tallycast-shared_objects} CACHE INTERNAL "")

# The core of the component (../wit). The component itself is made of it by wit-component, which comes from npm: ../wit/make.mjs.
set(wit ${tally_wasm_dir}/../wit)
tally_wasm_module(tallycast-component.core WITHOUT_ABI
  SOURCES ${TALLY_CLIENT_SOURCES} ${TALLY_PROTO_SOURCES} ${tally_wasm_dir}/libc/string.c ${wit}/component_map.c ${wit}/component_memory.c ${wit}/component_mirror.c)

add_custom_target(tallycast_wasm ALL
  DEPENDS ${tally_wasm_out}/tallycast.wasm ${tally_wasm_out}/tallycast-shared.wasm ${tally_wasm_out}/tallycast-component.core.wasm)
set(TALLYCAST_WASM ${tally_wasm_out}/tallycast.wasm CACHE INTERNAL "tallycast.wasm")
set(TALLYCAST_WASM_SHARED ${tally_wasm_out}/tallycast-shared.wasm CACHE INTERNAL "tallycast-shared.wasm")
install(FILES ${TALLYCAST_WASM} ${TALLYCAST_WASM_SHARED} ${tally_wasm_out}/tallycast-component.core.wasm ${wit}/tallycast.wit
  DESTINATION ${CMAKE_INSTALL_DATADIR}/tallycast COMPONENT client)
