// SPDX-License-Identifier: Apache-2.0
//
// The guest of share.c in Rust, with its standard library:
//
//   rustc --edition 2021 --target wasm32-unknown-unknown -O --crate-type cdylib client-wasm/examples/share.rs -o share-rust.wasm
use std::fmt::Write;

// docs/guests.md says what each does.
mod tallycast {
    #[link(wasm_import_module = "tallycast")]
    extern "C" {
        pub fn request_method() -> u32;
        pub fn request_path(out: *mut u8, capacity: u32) -> u32;
        pub fn request_body(out: *mut u8, capacity: u32) -> u32;
        pub fn respond(data: *const u8, bytes: u32);
        pub fn version() -> u64;
        pub fn table(name: *const u8, bytes: u32) -> i32;
        pub fn get(table: i32, key: *const u8, bytes: u32, out: *mut i64) -> i32;
        pub fn get_many(table: i32, keys: *const u8, bytes: u32, count: u32, out: *mut i64, found: *mut u8) -> u32;
    }
}

fn table(name: &str) -> i32 {
    unsafe { tallycast::table(name.as_ptr(), name.len() as u32) }
}

fn get(table: i32, key: &[u8]) -> Option<i64> {
    let mut value = 0;
    match unsafe { tallycast::get(table, key.as_ptr(), key.len() as u32, &mut value) } {
        0 => None,
        _ => Some(value),
    }
}

fn get_many(table: i32, keys: &[&[u8]]) -> Vec<Option<i64>> {
    let mut packed = Vec::new();
    for key in keys {
        packed.extend((key.len() as u32).to_le_bytes());
        packed.extend(*key);
    }
    let (mut values, mut found) = (vec![0; keys.len()], vec![0; keys.len()]);
    unsafe {
        tallycast::get_many(table, packed.as_ptr(), packed.len() as u32, keys.len() as u32, values.as_mut_ptr(), found.as_mut_ptr());
    }
    values.into_iter().zip(found).map(|(value, found)| (found != 0).then_some(value)).collect()
}

// The whole of what `ask` has: once for its size, once for its bytes.
fn request(ask: unsafe extern "C" fn(*mut u8, u32) -> u32) -> Vec<u8> {
    let mut bytes = vec![0; unsafe { ask(std::ptr::null_mut(), 0) } as usize];
    unsafe { ask(bytes.as_mut_ptr(), bytes.len() as u32) };
    bytes
}

fn json(value: Option<i64>) -> String {
    value.map_or("null".into(), |value| value.to_string())
}

fn answer() -> (i32, String) {
    let version = unsafe { tallycast::version() };
    let mut out = String::new();
    if unsafe { tallycast::request_method() } == 1 {
        let body = request(tallycast::request_body);
        let text = body.strip_suffix(b"\n").unwrap_or(&body);
        let keys: Vec<&[u8]> = text.split(|&byte| byte == b'\n').filter(|_| !text.is_empty()).collect();
        let values: Vec<String> = get_many(table("files"), &keys).into_iter().map(json).collect();
        let _ = writeln!(out, "{{\"version\":{version},\"files\":[{}]}}", values.join(","));
        return (200, out);
    }
    let path = request(tallycast::request_path);
    if path.len() < 2 {
        return (400, "{\"error\":\"which file? /v1/guest/NAME/REPOSITORY/FILE\"}\n".into());
    }
    let file = &path[1..];
    let repository = file.split(|&byte| byte == b'/').next().unwrap_or(file);
    let (file, repository) = (get(table("files"), file), get(table("repos"), repository));
    let _ = writeln!(out, "{{\"version\":{version},\"file\":{},\"repo\":{}}}", json(file), json(repository));
    (200, out)
}

#[no_mangle]
pub extern "C" fn handle() -> i32 {
    let (status, text) = answer();
    unsafe { tallycast::respond(text.as_ptr(), text.len() as u32) };
    status
}
