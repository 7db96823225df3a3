# slotcast_add_test(NAME <name> SOURCES <file>... [LIBS <target>...] [LABELS <label>...] [TIMEOUT <seconds>]
#                   [ENV <NAME=value>...])
# A cmocka program in ${CMAKE_BINARY_DIR}/tests and a ctest of the same name.  The time-out is the watchdog: it is
# far beyond what the test takes on a loaded machine, and beyond that of its own, where it has one (support/leaks.h).
# The environment has SLOTCAST_BIN_DIR (where slotcast and slotcastd are) and SLOTCAST_SOURCE_DIR.
#
# slotcast_test_defaults(<ctest name> [LABELS ..] [TIMEOUT ..] [ENV ..]) gives the same to a test added by hand.

pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)

set(SLOTCAST_TEST_DIR ${CMAKE_BINARY_DIR}/tests)

function(slotcast_test_defaults test)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "LABELS;ENV")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 900)
  endif()
  set_tests_properties(${test} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}" SKIP_RETURN_CODE 77)
  set_property(TEST ${test} PROPERTY ENVIRONMENT
    SLOTCAST_BIN_DIR=${CMAKE_BINARY_DIR}/bin
    SLOTCAST_SOURCE_DIR=${CMAKE_SOURCE_DIR}
    ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
    UBSAN_OPTIONS=print_stacktrace=1
    TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
    ${arg_ENV})
endfunction()

function(slotcast_add_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;TIMEOUT" "SOURCES;LIBS;LABELS;ENV")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_NAME OR NOT arg_SOURCES)
    message(FATAL_ERROR "slotcast_add_test(NAME SOURCES [LIBS] [LABELS] [TIMEOUT] [ENV]): ${ARGV}")
  endif()
  set(target test_${arg_NAME})
  add_executable(${target} ${arg_SOURCES})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${SLOTCAST_TEST_DIR})
  target_link_libraries(${target} PRIVATE ${arg_LIBS} PkgConfig::CMOCKA Threads::Threads)
  add_test(NAME ${arg_NAME} COMMAND ${target})
  slotcast_test_defaults(${arg_NAME} LABELS ${arg_LABELS} TIMEOUT ${arg_TIMEOUT} ENV ${arg_ENV})
endfunction()
