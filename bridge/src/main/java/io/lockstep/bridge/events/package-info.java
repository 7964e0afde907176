/**
 * Stream events of one site for the users of the others.
 *
 * <pre>
 * EventOutbox   the origin: what Gerrit fires, with the refs that it speaks of ({@code EventRefs})
 * EventInbox    the other sites: fired again, once what it speaks of is here
 *   UserEvents  to the listeners that stand for a user, and to no others
 * </pre>
 */
package io.lockstep.bridge.events;
