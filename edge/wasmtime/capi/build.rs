// SPDX-License-Identifier: Apache-2.0
//
// Tells ../build.sh, through the file it names, where the dependency put its headers.
fn main() {
    println!("cargo:rerun-if-env-changed=TALLY_WASMTIME_INCLUDE_FILE");
    let include = std::env::var("DEP_WASMTIME_C_API_INCLUDE").expect("wasmtime-c-api-impl names its headers");
    if let Ok(file) = std::env::var("TALLY_WASMTIME_INCLUDE_FILE") {
        std::fs::write(file, include).expect("the file named by TALLY_WASMTIME_INCLUDE_FILE can be written");
    }
}
