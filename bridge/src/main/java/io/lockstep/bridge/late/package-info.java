/**
 * Events of updates that Gerrit was told "not known" of, and that were committed.
 *
 * <pre>
 * LateEvents        finds out what became of each update in doubt, without a new try of it
 *   ChangeFates     of a change: its notes tell; of any other ref the sidecar is asked
 *   Firing          what follows when it was committed
 *     GerritFiring  the index, then the events of refs
 *     ChangeEvents  then those of changes: what the update made of a change ({@code ChangeStep}) tells which
 * </pre>
 *
 * <p>Gerrit fires nothing for what ended with an exception. What is fired here is heard by the listeners of this server as
 * any other event, and so goes to the other sites.
 */
package io.lockstep.bridge.late;
