//! The CSV file: `id,customer,cents` in its first line, and one record a line.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A good row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) customer: String,
    pub(crate) cents: u32,
}

/// One that is not.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BadRow {
    /// Its line in the file, from 1.
    pub(crate) line: u64,
    pub(crate) why: String,
}

/// Neighbouring rows of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Chunk {
    pub(crate) number: u32,
    file: PathBuf,
    /// Line of its first row, from 1.
    line: u64,
    /// Bytes in front of it, and its own.
    begin: u64,
    bytes: u64,
}

/// Makes a file of so many rows, if there is none; every thousandth is bad.
pub(crate) fn sample(folder: &Path, rows: u32) -> io::Result<PathBuf> {
    let path = folder.join(format!("sample-{rows}.csv"));
    if !path.exists() {
        let mut text = String::from("id,customer,cents\n");
        for id in 1..=rows {
            let cents = if id % 1000 == 0 { "a lot".to_owned() } else { (id % 997).to_string() };
            let _ = writeln!(text, "{id},customer {},{cents}", id % 61);
        }
        let unfinished = path.with_extension("unfinished");
        std::fs::write(&unfinished, text)?;
        std::fs::rename(&unfinished, &path)?;
    }
    Ok(path)
}

/// Cuts a file into chunks of so many rows.
pub(crate) fn cut(file: &Path, rows: u32) -> io::Result<Vec<Chunk>> {
    let mut reader = BufReader::new(File::open(file)?);
    let mut line = Vec::new();
    let mut begin = reader.read_until(b'\n', &mut line)? as u64;
    let mut chunks = Vec::new();
    let mut number = 2;
    loop {
        let (mut bytes, mut count) = (0, 0);
        while count < rows {
            line.clear();
            match reader.read_until(b'\n', &mut line)? as u64 {
                0 => break,
                read => bytes += read,
            }
            count += 1;
        }
        if count == 0 {
            return Ok(chunks);
        }
        let place = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        chunks.push(Chunk { number: place, file: file.to_owned(), line: number, begin, bytes });
        begin += bytes;
        number += u64::from(count);
    }
}

/// The rows of a chunk with their lines; of those that are bad, why.
pub(crate) fn read(chunk: &Chunk) -> io::Result<Vec<(u64, Result<Row, String>)>> {
    let mut file = File::open(&chunk.file)?;
    file.seek(SeekFrom::Start(chunk.begin))?;
    let records = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(file.take(chunk.bytes))
        .into_records();
    let rows = records.enumerate().map(|(place, record)| {
        let row = record.map_err(|error| error.to_string()).and_then(|record| parse(&record));
        (chunk.line + place as u64, row)
    });
    Ok(rows.collect())
}

fn parse(record: &csv::StringRecord) -> Result<Row, String> {
    let [id, customer, cents] = record.iter().collect::<Vec<_>>()[..] else {
        return Err(format!("{} columns instead of 3", record.len()));
    };
    Ok(Row {
        id: id.parse().map_err(|_| format!("the id {id:?} is no number"))?,
        customer: customer.to_owned(),
        cents: cents.parse().map_err(|_| format!("{cents:?} is no number of cents"))?,
    })
}
