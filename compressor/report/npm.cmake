# Packages from npm for the build: rwkv_npm_ci.
find_program(RWKV_NPM npm)
if(NOT RWKV_NPM)
  message(FATAL_ERROR "npm is missing: rwkv-press contains a page with charts, whose library comes "
          "from it. scripts/setup.sh installs nodejs and npm; -DRWKV_BUILD_COMPRESSOR=OFF builds without.")
endif()

# rwkv_npm_ci(SOURCE STAMP): installs the packages that package-lock.json in the folder SOURCE pins
# into CMAKE_CURRENT_BINARY_DIR/npm/node_modules; the file STAMP (a variable) exists afterwards.
# Nothing is written next to the sources, checksums are compared, and no package script is run.
function(rwkv_npm_ci source stamp)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/npm)
  set(inputs ${source}/package.json ${source}/package-lock.json)
  add_custom_command(
    OUTPUT ${folder}/installed
    COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
    COMMAND ${CMAKE_COMMAND} -E copy ${inputs} ${folder}
    COMMAND ${CMAKE_COMMAND} -E chdir ${folder}
            ${RWKV_NPM} ci --ignore-scripts --prefer-offline --no-audit --no-fund --loglevel=error
    COMMAND ${CMAKE_COMMAND} -E touch ${folder}/installed
    DEPENDS ${inputs} COMMENT "Fetching what ${source}/package-lock.json pins" VERBATIM)
  set(${stamp} ${folder}/installed PARENT_SCOPE)
endfunction()
