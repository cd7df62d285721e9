# frost_embed_files(<object library> <generated.cpp> <file>...): a C++ table of the files' names and texts, so that a tool works
# from any folder. Run as a script (-DOUTPUT= -DFILES=) it writes that table.
if(CMAKE_SCRIPT_MODE_FILE)
  string(REPLACE "|" ";" FILES "${FILES}")
  set(rows "")
  foreach(path IN LISTS FILES)
    cmake_path(GET path FILENAME name)
    file(READ ${path} text)
    string(APPEND rows "    {\"${name}\", R\"frost(${text})frost\"},\n")
  endforeach()
  file(WRITE ${OUTPUT} "// Generated from the files named below.
#include \"models/graph/builtin_files.h\"

namespace frost::detail {
std::span<const BuiltinFile> builtin_table() {
  static constexpr BuiltinFile kTable[] = {
${rows}  };
  return kTable;
}
}  // namespace frost::detail
")
  return()
endif()

set(FROST_EMBED_SCRIPT ${CMAKE_CURRENT_LIST_FILE})
function(frost_embed_files target output)
  list(JOIN ARGN "|" files)
  add_custom_command(OUTPUT ${output} DEPENDS ${ARGN} ${FROST_EMBED_SCRIPT} VERBATIM
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} "-DFILES=${files}" -P ${FROST_EMBED_SCRIPT}
    COMMENT "Embedding the model and hyperparameter files and the page of yolo-explain")
  add_library(${target} OBJECT ${output})
endfunction()
